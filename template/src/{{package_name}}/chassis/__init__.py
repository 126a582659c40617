"""The chassis of this service: the code that makes it production-ready, separate from your code.

It belongs to the template: `copier update` replaces it. Extend it from outside with settings, health checks and your
own features in `main.py`. If you edit it, an update merges the edit and `make drift` shows it.
"""
