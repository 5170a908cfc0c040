"""Is B the same function as A, and if not, which leaves are wrong?"""

from ._diagnose import Diagnosis as Diagnosis, diagnose as diagnose
