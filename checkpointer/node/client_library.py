"""The Kubernetes client library's transport, without what the agent does not use of it.

Its packages import everything in them, seven hundred models of pydantic among it: 20 MB and a
sixth of a second on every node, for plain JSON over HTTPS. Here the packages are loaded as empty
ones with their modules in them, so that a module can be imported by itself; whatever asks for
more of a package (an exec plugin's credentials do) has it loaded whole, as ever.
"""

from __future__ import annotations

from checkpointer.node.late_modules import load_late

for _name in ("kubernetes", "kubernetes.client", "kubernetes.utils"):
    load_late(_name)

from kubernetes.client.configuration import Configuration  # noqa: E402
from kubernetes.client.exceptions import ApiException  # noqa: E402
from kubernetes.client.rest import RESTClientObject  # noqa: E402
from kubernetes.watch.watch import iter_resp_lines  # noqa: E402

__all__ = ["ApiException", "Configuration", "RESTClientObject", "iter_resp_lines"]
