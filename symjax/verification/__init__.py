"""Verification: does an action leave a model unchanged, and do the actions explain all that can?"""

from ._completeness import Completeness as Completeness, completeness as completeness
from ._redundancy import Redundancy as Redundancy, redundancy as redundancy
from ._verify import Verification as Verification, verify as verify, verify_all as verify_all
