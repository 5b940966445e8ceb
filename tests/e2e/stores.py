"""Stores of data that the blueprints know: each writes all the time, by itself, and never one half of a pair without the other."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]

PASSWORD = 'it\'s a "secret" \\ one'  # with what a shell, SQL or a client's file could trip over
HEAVIEST = "256Mi"

MARIADB = r"""
set -e
mkdir -p /data/db /run/mysqld
chown -R mysql /data/db /run/mysqld
[ -d /data/db/mysql ] || mariadb-install-db --no-defaults --user=mysql --datadir=/data/db --skip-test-db --force --auth-root-authentication-method=normal >/dev/null
cat >/tmp/init.sql <<'SQL'
alter user root@localhost identified by 'it\'s a "secret" \\ one';
create database if not exists shop;
create table if not exists shop.orders(n bigint primary key) engine=innodb;
create table if not exists shop.items(n bigint primary key) engine=innodb;
create table if not exists shop.notes(n bigint primary key) engine=myisam;
SQL
export MYSQL_PWD="$MARIADB_ROOT_PASSWORD"
while :; do
  mariadb --user=root shop --execute='begin; insert into orders select coalesce(max(n), 0) + 1 from orders; insert into items select max(n) from orders; commit;
    insert into notes select coalesce(max(n), 0) + 1 from notes' 2>/dev/null || sleep 0.1
done &
exec mariadbd --no-defaults --user=mysql --datadir=/data/db --socket=/run/mysqld/mysqld.sock --skip-networking --init-file=/tmp/init.sql \
  --innodb-log-file-size=8M --innodb-buffer-pool-size=32M
"""
MARIADB_COUNTS = (
    'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root --batch --skip-column-names shop'
    " --execute='select (select count(*) from orders), (select max(n) from orders), (select count(*) from items), (select count(*) from notes)'"
)
"""Orders, the last order, items: always the same; and what was noted of them, in a table without transactions."""

REDIS = r"""
export REDISCLI_AUTH="$REDIS_PASSWORD"
while :; do
  printf 'multi\nincr orders\nincr items\nexec\n' | redis-cli >/dev/null 2>&1 || sleep 0.1
done &
cat >/tmp/redis.conf <<'CONF'
requirepass "it's a \"secret\" \\ one"
CONF
exec redis-server /tmp/redis.conf --dir /data --bind 127.0.0.1 --appendonly yes
"""
REDIS_COUNTS = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli mget orders items'

SQLITE = r"""
sqlite3 /data/logged.sqlite 'pragma journal_mode = wal' >/dev/null
for file in /data/logged.sqlite /data/plain.sqlite; do
  sqlite3 $file 'create table if not exists orders(n); create table if not exists items(n)'
done
while :; do
  for file in /data/logged.sqlite /data/plain.sqlite; do
    sqlite3 -cmd '.timeout 60000' $file \
      'begin immediate; insert into orders select coalesce(max(n), 0) + 1 from orders; insert into items select max(n) from orders; commit'
  done
done
"""
SQLITE_COUNTS = "sqlite3 -cmd '.timeout 20000' /data/logged.sqlite 'select count(*), (select count(*) from items) from orders'"

ETCD = "exec etcd --data-dir /data/etcd"

FILES = r"""
n=0
while :; do n=$((n+1)); echo $n >/data/orders; echo $n >/data/items; done
"""
FILES_COUNTS = "cat /data/orders"


def pod(image: str, script: str, *, environment: dict[str, str], claim: str = "", privileged: bool = False) -> Manifest:
    """Return the specification of a pod with one container `main`, whose data is at /data; an empty folder is at /scratch."""
    container: Manifest = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/scratch"}],
        "securityContext": {"privileged": privileged},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    data = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [*data, {"name": "scratch", "emptyDir": {}}]}


def claim_spec(size: str = HEAVIEST) -> Manifest:
    """Return the specification of a claim of the default storage class."""
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}


def stateful_set(name: str, specification: Manifest) -> Manifest:
    """Return a StatefulSet of one such pod, with a claim of its own."""
    labels = {"app": name}
    specification = {**specification, "volumes": [volume for volume in specification["volumes"] if volume["name"] != "data"]}
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": specification},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec()}],
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "labels": labels}, "spec": spec}
