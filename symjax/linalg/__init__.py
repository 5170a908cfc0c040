"""Exponentials, logarithms and polar factors of batches of matrices, on any backend."""

from ._expm import expm as expm, expm_path as expm_path
from ._logm import has_principal_log as has_principal_log, logm as logm
from ._paths import (
    NO_PATH as NO_PATH,
    ONE_EXPONENTIAL as ONE_EXPONENTIAL,
    TWO_EXPONENTIALS as TWO_EXPONENTIALS,
    connecting_logs as connecting_logs,
)
from ._polar import log_rotation as log_rotation, polar as polar
