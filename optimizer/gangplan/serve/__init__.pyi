from .webhooks import serve as serve, subscribe as subscribe
