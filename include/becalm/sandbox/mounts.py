"""The folders that a pod's volumes become: claims, empty folders, Secrets and ConfigMaps as files, projections."""

from __future__ import annotations

import base64
import secrets as random
import shutil
from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.fields import field_value

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.model import Manifest
    from becalm.sandbox.disks import Disks
    from becalm.sandbox.store import Store

FILE_MODE = 0o644


class NotYet(Exception):  # noqa: N818  (a state, told to the caller; it becomes the reason for which a container waits)
    """Something that a pod needs is not there yet."""


def volume_folder(store: Store, disks: Disks, pod: Manifest, volume: Manifest, home: Path) -> Path:
    """Return the folder (or the file of a block volume) of one volume of a pod, made if need be. Raises: NotYet."""
    namespace = pod["metadata"]["namespace"]
    own: Path = home / "volumes" / volume["name"]
    if "persistentVolumeClaim" in volume:
        return _claim_folder(store, disks, namespace, volume["persistentVolumeClaim"]["claimName"])
    if "emptyDir" in volume or "ephemeral" in volume:
        own.mkdir(parents=True, exist_ok=True)
        return own
    if "secret" in volume:
        source = volume["secret"]
        files = _secret_files(store, namespace, {**source, "name": source.get("secretName")})
    elif "configMap" in volume:
        files = _config_files(store, namespace, volume["configMap"])
    elif "downwardAPI" in volume:
        files = _downward_files(pod, volume["downwardAPI"])
    elif "projected" in volume:
        files = _projected_files(store, pod, volume["projected"])
    else:
        kind = next((key for key in volume if key != "name"), "nothing")
        raise NotYet(f"the sandbox does not mount {kind} (volume {volume['name']})")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    for name, (content, mode) in files.items():
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    return own


def _claim_folder(store: Store, disks: Disks, namespace: str, name: str) -> Path:
    claim = store.get(kinds.CLAIMS.bucket, (namespace, name))
    volume = store.get(kinds.VOLUMES.bucket, ("", ((claim or {}).get("spec") or {}).get("volumeName") or ""))
    if claim is None or volume is None or claim["status"].get("phase") != "Bound":
        raise NotYet(f'the claim "{name}" is not bound')
    folder = disks.volume((volume["spec"].get("csi") or {}).get("volumeHandle", ""))
    if not folder.exists():
        raise NotYet(f"the volume {volume['metadata']['name']} of claim {name} is not of this sandbox, or its data is gone")
    return folder


Files = dict[str, tuple[bytes, int]]


def _picked(data: dict[str, bytes], source: Manifest, default_mode: int) -> Files:
    items = source.get("items")
    if not items:
        return {name: (content, default_mode) for name, content in data.items()}
    return {item["path"]: (data[item["key"]], item.get("mode", default_mode)) for item in items if item["key"] in data}


def _secret_files(store: Store, namespace: str, source: Manifest) -> Files:
    secret = store.get(kinds.SECRETS.bucket, (namespace, source.get("name") or ""))
    if secret is None:
        if source.get("optional"):
            return {}
        raise NotYet(f'secret "{source.get("name")}" not found')
    return _picked(secret_data(secret), source, source.get("defaultMode", FILE_MODE))


def _config_files(store: Store, namespace: str, source: Manifest) -> Files:
    config = store.get(kinds.CONFIG_MAPS.bucket, (namespace, source.get("name") or ""))
    if config is None:
        if source.get("optional"):
            return {}
        raise NotYet(f'configmap "{source.get("name")}" not found')
    return _picked(config_data(config), source, source.get("defaultMode", FILE_MODE))


def _downward_files(pod: Manifest, source: Manifest) -> Files:
    mode = source.get("defaultMode", FILE_MODE)
    return {
        item["path"]: (field_value(pod, item["fieldRef"]["fieldPath"]).encode(), mode)
        for item in source.get("items") or ()
        if "fieldRef" in item
    }


def _projected_files(store: Store, pod: Manifest, volume: Manifest) -> Files:
    namespace = pod["metadata"]["namespace"]
    files: Files = {}
    for source in volume.get("sources") or ():
        if "secret" in source:
            files |= _secret_files(store, namespace, source["secret"])
        elif "configMap" in source:
            files |= _config_files(store, namespace, source["configMap"])
        elif "downwardAPI" in source:
            files |= _downward_files(pod, source["downwardAPI"])
        elif "serviceAccountToken" in source:
            files[source["serviceAccountToken"]["path"]] = (random.token_urlsafe(32).encode(), 0o600)
    return files


def secret_data(secret: Manifest) -> dict[str, bytes]:
    """Return what a Secret holds."""
    return {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}


def config_data(config: Manifest) -> dict[str, bytes]:
    """Return what a ConfigMap holds."""
    plain = {name: str(text).encode() for name, text in (config.get("data") or {}).items()}
    return plain | {name: base64.b64decode(text) for name, text in (config.get("binaryData") or {}).items()}
