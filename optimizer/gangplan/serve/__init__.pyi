from .app import make_app as make_app
from .visitors import Link as Link, Right as Right, Visitor as Visitor
from .webhooks import serve as serve, subscribe as subscribe
