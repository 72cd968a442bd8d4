"""A simulated node for the demo, tests and benchmarks: real interfaces, no cluster.

`node.SimulatedNode` puts it together. In the order to read it: `cluster` (what etcd holds),
`api_server` (over HTTPS, with `connections` that fail as networks do), `runtime` and `cri_server`
(containers, over CRI), `kubelet` with `pod_worker` (the rules), `controllers`, `node`; then
`scenario`, the story that `checkpointer demo` tells.
"""
