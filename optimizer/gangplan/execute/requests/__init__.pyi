from .answering import answer_all as answer_all, read_requests as read_requests
from .answers import answers as answers
from .objects import CLASS as CLASS, queue_check as queue_check
from .values import Answer as Answer, NodeRequest as NodeRequest, PodsAsked as PodsAsked, Said as Said
