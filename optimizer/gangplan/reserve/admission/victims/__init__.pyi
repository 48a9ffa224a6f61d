from .search import Candidate as Candidate, Choice as Choice, choose as choose
