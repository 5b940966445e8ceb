"""A policy to begin with. A test loads it, and sees to it that every section that is carried out stands in it."""

SAMPLE = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata:
  name: shop                            # names the DAG and the repository; it stays for good
spec:
  cluster: kubernetes_default           # an Airflow connection; for the command line, a context of the kubeconfig
  schedule: "0 * * * *"                 # minute hour day month weekday, or @hourly, @daily; leave it out to run by hand only
  timezone: Europe/Zurich
  environment: production               # production | staging | test
  objectives: {rpo: 2h, rto: 15m}       # the greatest age of the last good point; the longest restore
  select:
    namespaces: [shop, "shop-*"]
    labels: "tier!=scratch"             # what carries becalm.dev/protect=no stays out in any case
    resources: {include: ["*"], exclude: [events, "leases.coordination.k8s.io"]}
    clusterScoped: auto                 # auto (what the selection refers to) | all | none
  volumes:
    default: snapshot                   # snapshot | live | skip
    rules:                              # the first that matches decides
      - match: {storageClass: scratch, sizeOver: 500Gi}
        use: skip
        because: "rebuilt from the catalogue within an hour"
  quiesce:
    scope: application                  # application (each namespace in its own window) | policy (all in one)
    timeout: 30s                        # nobody is frozen longer
    onFailure: crash-consistent         # crash-consistent | fail
    annotations: [shop]                 # namespaces whose pods may bring hooks of their own
    hooks:
      - select: {labels: "app=orders-db"}
        command:
          container: db
          freeze: [/usr/local/bin/pause-writes]
          thaw: [/usr/local/bin/resume-writes]
        timeout: 20s
  infrastructure:                       # the code that the cluster is made from; a mirror of it is in every point
    repositories:
      - url: https://git.example.org/platform/shop.git
        connection: git_reader          # a user and a token, or a private key and known hosts
  target:
    url: s3://backups/prod              # or file:///absolute/path
    connection: becalm_s3               # an Airflow connection with the keys and the endpoint; never in this file
    password: becalm_repository         # the repository's: a connection, file:/path or env:NAME
    lock: {mode: compliance, days: 14}  # the bucket must have object lock; leave it out if it has not
  retention: {last: 3, hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 3, within: 2d}
  missed: latest                        # latest | all: what a backfill of missed slots makes up for
  restore:                              # Airflow's restores; the command line asks the person at the terminal
    approval: required                  # required | optional | never
    approvers: [anna, ben]              # users of Airflow; whoever may edit the run, if left out
  alerts:
    notify: [ops_mail, ops_chat]        # connections of type smtp, slackwebhook or http; without them BECALM_NOTIFY
    deadline: 1h                        # how long a run may take; as long as objectives.rpo, if left out
  drift:                                # what runs, beside what was saved and what is declared
    schedule: "30 6 * * *"
    declared:
      - {repository: shop, path: deploy/production}
    ignore:
      - {kinds: [Deployment], fields: ["spec.template.*.image"], because: the release robot sets it}
  drill:                                # restore the last good point into a namespace of its own, look, and remove it
    schedule: "0 4 * * 0"               # leave it out to drill by hand only
    ready: 10m                          # how long every workload may take to be ready
    checks:
      - select: {labels: "app=orders-db"}
        command: [pg_isready]
"""
