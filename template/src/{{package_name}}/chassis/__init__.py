"""The chassis of this service: what makes it production-ready, kept apart from what makes it yours.

It belongs to the template: `copier update` replaces it. Extend it from outside, through a setting, a health check, a
feature of your own in `main.py`; if you do edit it, the edit is merged and `make drift` shows it.
"""
