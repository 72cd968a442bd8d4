"""pod-checkpointer: brings a node's pods back when it restarts without an API server.

The order to read it in: `core` (the words, then `contact`, then `decide`), `manifest` (what
becomes of a pod), `store`, `node` (the adapters), `agent` (the loop), `cli`.
"""

__version__ = "0.1.0"
