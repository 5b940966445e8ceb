"""A cluster for a laptop: a small Kubernetes API server whose pods are processes. It serves the demo and the tests.

It keeps the contract suite that a real cluster keeps (`becalm.testing.contracts.cluster`); where the two differ, it is wrong. What it is not:

- A container is a process of this machine, of this user: no image, no root folder, no limits, no capabilities, no network of its own. Mount paths
  are replaced in commands, arguments and variables (`paths`); a path that a program makes up by itself is not, and `/tmp` is left alone.
- One node, one user who may do everything: no RBAC, no quotas, no webhooks, no aggregated APIs. CronJobs, NetworkPolicies, Services and
  autoscalers are kept and shown, and do nothing.
- JSON only: no protobuf, no tables, no OpenAPI. `kubectl` works with `--validate=false`, and creates by `apply`.
- Its past ends with a restart: revisions from before it are compacted.
"""
