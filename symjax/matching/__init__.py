"""Which group element brings two models together."""

from ._elements import (
    apply_element as apply_element,
    identity_element as identity_element,
    load_element as load_element,
    save_element as save_element,
)
from ._learn import LearnedMatch as LearnedMatch, learn as learn
from ._learn_many import LearnedMany as LearnedMany, learn_many as learn_many
from ._many import ManyMatch as ManyMatch, match_many as match_many
from ._match import Match as Match, match as match
from ._refine import Refinement as Refinement, refine as refine
