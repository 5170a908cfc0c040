"""Random programs, and what discovery says of them beside what is true."""

from ._judge import Verdict as Verdict, judge as judge
from ._programs import KINDS_OF_IDS as KINDS_OF_IDS, Program as Program, program as program
