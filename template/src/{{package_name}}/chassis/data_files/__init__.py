"""Data files: every record is validated against a model before the service uses it."""

from .files import DataFileError as DataFileError
from .files import Fault as Fault
from .files import load as load
