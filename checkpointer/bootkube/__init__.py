"""What the bootkube checkpointer keeps on a node, read so that it can be taken over.

Its rules are those of kubernetes-retired/bootkube, pkg/checkpoint (checkpoint.go, manifest.go,
pod.go, secret.go, config_map.go): `parents` turns one of its checkpoints back into the pod that
it was taken of, `files` reads its folders, `takeover` imports and cleans up.
"""
