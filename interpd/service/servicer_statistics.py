"""StatisticsService: counters of the daemon."""

from interpd.scheduler.interface import Front
from interpd.service.interceptors import Call
from interpd.service.messages import statistics_to_proto
from interpd.wire.v1 import statistics_service_pb2 as pb


class StatisticsServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def get_statistics(self, request: pb.GetStatisticsRequest, call: Call) -> pb.GetStatisticsResponse:
        """A snapshot of all counters."""
        return pb.GetStatisticsResponse(statistics=statistics_to_proto(self._front.statistics()))
