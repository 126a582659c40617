"""The example domain. Delete this folder, `tests/notes/` and its line in `main.py` when your own stands."""
