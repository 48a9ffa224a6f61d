from .announcements import Announcements as Announcements, announce as announce
from .ingestion import ingest as ingest
from .mappings import Reading as Reading
from .minutes import fine_gpus as fine_gpus, fine_requests as fine_requests
from .preview import Preview as Preview, preview as preview
from .quarantine import release as release
from .read import (
    kept_span as kept_span,
    last_hour as last_hour,
    read_usage as read_usage,
    record_reservations as record_reservations,
    until_now as until_now,
)
from .sources import make_sample as make_sample, read_containers as read_containers
from .timing import Timing as Timing
from .values import IngestReport as IngestReport
