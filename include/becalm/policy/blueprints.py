"""The blueprints that a policy can name, and what an author can say to each: its parameters.

Part of `spec`, which passes its names on. How a blueprint stills its application is not known here; that is `becalm.quiesce`. Passwords are
never parameters: a blueprint finds them in the container, where the application itself has them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from becalm.policy.fields import ContainerName, ContainerPath, Port, UserName, Word  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section


class BlueprintName(StrEnum):
    """What `use:` can say."""

    POSTGRESQL = "postgresql"
    MARIADB = "mariadb"
    MYSQL = "mysql"
    REDIS = "redis"
    SQLITE = "sqlite"
    ETCD = "etcd"
    FILESYSTEM = "filesystem"
    MONGODB = "mongodb"
    ELASTICSEARCH = "elasticsearch"
    POSTGRESQL_DUMP = "postgresql-dump"
    MARIADB_DUMP = "mariadb-dump"


class Stilled(StrEnum):
    """Which members of a replicated application are stilled."""

    PRIMARY = "primary"
    """The one that writes; that it is exactly one is asked of the application itself."""
    EVERY = "every"
    """All that the hook selects, for applications in which each of them writes."""


class Parameters(Section):
    """What every blueprint can be told."""

    container: ContainerName | None = Field(
        default=None, description="The container to run in. If left out: the one that mounts a protected volume, or else the first."
    )
    user: UserName | None = Field(default=None, description="The user of the container to run as, if it is not the container's own.")


class PostgresqlParameters(Parameters):
    """PostgreSQL 10 and later: a base backup's start and stop around the cut, in one session."""

    role: Word = Field(default="postgres", description="The database role: a superuser, or one that may take base backups.")
    database: Word = Field(default="postgres", description="The database to connect to.")
    host: Word | None = Field(
        default=None, description="The address, or the folder of the socket. If left out, what the client has built in."
    )
    port: Port = Field(default=5432, description="The port.")


class MysqlParameters(Parameters):
    """MariaDB and MySQL: the global read lock, held by a living session."""

    account: Word = Field(default="root", description="The account: it must be allowed to flush and to lock all tables.")
    host: Word | None = Field(default=None, description="The address. If left out, the socket that the client has built in.")
    port: Port = Field(default=3306, description="The port, where `host` is given.")
    socket: ContainerPath | None = Field(default=None, description="The server's socket, if it is not where the client looks for it.")
    password_file: ContainerPath | None = Field(
        default=None, description="A file with the password. If left out, the environment of the container has it, or none is needed."
    )
    members: Stilled = Field(
        default=Stilled.PRIMARY, description="`primary` (the one server that is not read-only) or `every` (Galera, or one server)."
    )


class RedisParameters(Parameters):
    """Redis 6.2 and later, and Valkey: writes paused, and what was written saved to disk."""

    host: Word = Field(default="127.0.0.1", description="The address.")
    port: Port = Field(default=6379, description="The port.")
    socket: ContainerPath | None = Field(default=None, description="The server's socket, instead of the address.")
    account: Word | None = Field(default=None, description="The account, where the server has any beside its own.")
    password_file: ContainerPath | None = Field(
        default=None, description="A file with the password. If left out, the environment of the container has it, or none is needed."
    )
    tls: bool = Field(default=False, description="Whether the server wants TLS.")
    ca: ContainerPath | None = Field(default=None, description="The file of the certificate authority.")
    certificate: ContainerPath | None = Field(default=None, description="The file of the client's certificate.")
    key: ContainerPath | None = Field(default=None, description="The file of the client's key.")
    members: Stilled = Field(
        default=Stilled.PRIMARY,
        description="`primary` (the one master) or `every` (the masters of a Redis Cluster, selected by their label).",
    )


class SqliteParameters(Parameters):
    """SQLite: a transaction that keeps every writer out, held by a living session."""

    files: Annotated[tuple[ContainerPath, ...], Field(min_length=1, max_length=10)] = Field(
        default=("/data/database.sqlite",), description="The database files, locked together."
    )


class EtcdParameters(Parameters):
    """Etcd: a snapshot by its own client, kept in the recovery point."""

    endpoint: Word | None = Field(
        default=None, description="Where the member answers. If left out, what the environment of the container says, or `127.0.0.1:2379`."
    )
    ca: ContainerPath | None = Field(default=None, description="The file of the certificate authority.")
    certificate: ContainerPath | None = Field(default=None, description="The file of the client's certificate.")
    key: ContainerPath | None = Field(default=None, description="The file of the client's key.")
    folder: ContainerPath | None = Field(
        default=None,
        description="Where the snapshot stands while it is carried away. If left out, the container's folder for temporary files.",
    )


class FilesystemParameters(Parameters):
    """Any file system: `fsfreeze` of a mount point, in a container that may."""

    path: ContainerPath = Field(default="/data", description="The mount point.")


class MongodbParameters(Parameters):
    """MongoDB: flushed, and locked against writes."""

    host: Word = Field(default="127.0.0.1", description="The address.")
    port: Port = Field(default=27017, description="The port.")
    account: Word | None = Field(default=None, description="The account. If left out, the one in the environment of the container, if any.")
    password_file: ContainerPath | None = Field(
        default=None, description="A file with the password. If left out, the environment of the container has it, or none is needed."
    )
    tls: bool = Field(default=False, description="Whether the server wants TLS.")
    ca: ContainerPath | None = Field(default=None, description="The file of the certificate authority.")


class ElasticsearchParameters(Parameters):
    """Elasticsearch and OpenSearch: flushed, and blocked against writes."""

    url: Word = Field(default="http://127.0.0.1:9200", description="Where the node answers.")
    account: Word = Field(default="elastic", description="The account, used where there is a password.")
    password_file: ContainerPath | None = Field(
        default=None, description="A file with the password. If left out, the environment of the container has it, or none is needed."
    )
    ca: ContainerPath | None = Field(default=None, description="The file of the certificate authority.")


class DumpParameters(Parameters):
    """A logical dump, streamed to the recovery point. Nothing is frozen for it."""

    databases: Annotated[tuple[Word, ...], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="The databases, each a file of its own. If left out: all of them that are not the server's own."
    )
    host: Word | None = Field(
        default=None, description="The address, or the folder of the socket. If left out, what the client has built in."
    )


class PostgresqlDumpParameters(DumpParameters):
    """`pg_dump` of each database, streamed to the recovery point. Nothing is frozen for it."""

    role: Word = Field(default="postgres", description="The database role: one that may read all.")
    port: Port = Field(default=5432, description="The port.")


class MariadbDumpParameters(DumpParameters):
    """`mariadb-dump` (or `mysqldump`) of each database, streamed to the recovery point. Nothing is frozen for it."""

    account: Word = Field(default="root", description="The account: one that may read all.")
    port: Port = Field(default=3306, description="The port, where `host` is given.")


AnyParameters = (
    PostgresqlParameters
    | MysqlParameters
    | RedisParameters
    | SqliteParameters
    | EtcdParameters
    | FilesystemParameters
    | MongodbParameters
    | ElasticsearchParameters
    | PostgresqlDumpParameters
    | MariadbDumpParameters
)
PARAMETERS: dict[BlueprintName, type[AnyParameters]] = {
    BlueprintName.POSTGRESQL: PostgresqlParameters,
    BlueprintName.MARIADB: MysqlParameters,
    BlueprintName.MYSQL: MysqlParameters,
    BlueprintName.REDIS: RedisParameters,
    BlueprintName.SQLITE: SqliteParameters,
    BlueprintName.ETCD: EtcdParameters,
    BlueprintName.FILESYSTEM: FilesystemParameters,
    BlueprintName.MONGODB: MongodbParameters,
    BlueprintName.ELASTICSEARCH: ElasticsearchParameters,
    BlueprintName.POSTGRESQL_DUMP: PostgresqlDumpParameters,
    BlueprintName.MARIADB_DUMP: MariadbDumpParameters,
}
"""What the author can say to each."""
