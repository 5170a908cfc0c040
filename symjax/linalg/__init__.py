"""Exponentials, logarithms and polar factors of batches of matrices, on any backend."""

from ._expm import expm as expm
from ._expm import expm_path as expm_path
from ._logm import has_principal_log as has_principal_log
from ._logm import logm as logm
from ._paths import connecting_logs as connecting_logs
from ._polar import log_rotation as log_rotation
from ._polar import polar as polar
