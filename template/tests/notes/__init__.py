"""The tests of the example domain; delete this folder together with `notes/`."""
