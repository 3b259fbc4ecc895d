"""Every message of `parley.admin.v1`: `from parley.admin import v1 as admin`.

Written by `make gen`; do not edit.
"""

from parley.admin.v1.cache_service_pb2 import (
    GetCacheStatsRequest as GetCacheStatsRequest,
    GetCacheStatsResponse as GetCacheStatsResponse,
    PurgeCacheRequest as PurgeCacheRequest,
    PurgeCacheResponse as PurgeCacheResponse,
)
