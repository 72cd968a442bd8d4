"""A one-node Kubernetes on a machine of its own that can be switched off and on again.

Read `machine` first (what a machine is here, and why nothing of it is left afterwards), then
`node` (what a test can do to it). The other modules are the parts that `node` puts together.
"""
