"""What users' code calls: reserve and give back safely, hold a lease, words about a wait.

ledger = gangplan.reserve.open_ledger(url)
reservation = client.submit(ledger, request, until)
with client.hold(ledger, reservation.id, reservation.token) as held: ...
code = client.run_held(ledger, reservation, process)  # of client.prepare(command)
client.give_back(ledger, request.request_key)
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
