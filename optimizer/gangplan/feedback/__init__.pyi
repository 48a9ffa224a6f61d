from .journal import learn as learn, read_beliefs as read_beliefs, read_score as read_score
from .scoring import score as score
