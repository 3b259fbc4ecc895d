"""The cache of answers, for chats and for embeddings."""

from parley_server.pipeline.cache.answers import Answers
from parley_server.pipeline.cache.embeds import EmbedCache
from parley_server.pipeline.cache.keys import Keys, Target
from parley_server.pipeline.cache.layer import Cache
from parley_server.pipeline.cache.policy import CachePolicy, Policies
from parley_server.pipeline.cache.purges import Purge

__all__ = ["Answers", "Cache", "CachePolicy", "EmbedCache", "Keys", "Policies", "Purge", "Target"]
