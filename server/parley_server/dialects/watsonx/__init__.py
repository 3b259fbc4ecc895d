"""IBM watsonx.ai: https://cloud.ibm.com/apidocs/watsonx-ai.

Its chat is chat completions in another envelope: `chat` puts it around whatever dialect of chat completions it is given
by the provider. `errors`, `embed`, `rerank` and `models` are its own. Paths start with /ml, so the base URL is that of
the region, such as https://us-south.ml.cloud.ibm.com, or of a cluster.
"""

from __future__ import annotations

from parley_server.dialects.watsonx.chat import WatsonxChat
from parley_server.dialects.watsonx.embed import WatsonxEmbed
from parley_server.dialects.watsonx.errors import error_inside
from parley_server.dialects.watsonx.models import WatsonxModels
from parley_server.dialects.watsonx.rerank import WatsonxRerank
from parley_server.dialects.watsonx.scope import Scope

__all__ = ["Scope", "WatsonxChat", "WatsonxEmbed", "WatsonxModels", "WatsonxRerank", "error_inside"]
