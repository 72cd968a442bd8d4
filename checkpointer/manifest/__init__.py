"""What becomes of a pod: from a parent to a manifest that needs no API server, or a refusal.

Pure: no I/O, no clock. The order to read it in: `answers` and `legible` (what of the API's can be
read at all), `select` (which pods), `fields` and `volume_fields` (every field and its treatment),
`sanitize` and what it calls (`identity`, `downward`, `resource_fields`, `expansion`, `environment`,
`volumes`, `containers`), `acceptance` and its `*_rules` (the kubelet's own rules, an independent
reading), `render` (bytes, names and our mark).
"""

PREFIX = "checkpointer.alpha.coreos.com/"
"""Every label and annotation of ours begins with it; the historic name, since users have it."""
