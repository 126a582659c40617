"""The tests of the notes; delete this folder together with `notes/`."""
