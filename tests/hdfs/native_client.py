"""hdfs-native against RingFS: native_client.py URI [older]. It ends with the first thing that is not so.

Older versions have no globs and no ACLs.
"""

import sys

import fsspec
import hdfs_native
import hdfs_native.fsspec  # registers the protocol
from hdfs_native import Client, WriteOptions


def acls(client: Client) -> None:
    from hdfs_native import AclEntry

    client.modify_acl_entries("/p/g", [AclEntry("user", "access", "rw-", "eve"), AclEntry("group", "access", "r--", "ops")])
    named = [(entry.type, entry.name, entry.permissions) for entry in client.get_acl_status("/p/g").entries if entry.name]
    assert named == [("user", "eve", "rw-"), ("group", "ops", "r--")], named
    client.remove_acl_entries("/p/g", [AclEntry("user", "access", "rw-", "eve")])
    assert [entry.name for entry in client.get_acl_status("/p/g").entries if entry.name] == ["ops"]
    client.modify_acl_entries("/p/d", [AclEntry("user", "default", "r-x", "eve")])
    client.remove_default_acl("/p/d")
    client.remove_acl("/p/g")
    assert client.get_acl_status("/p/g").entries == []
    entries = [("user", "rw-", None), ("user", "r--", "bob"), ("group", "r--", None), ("other", "---", None)]
    client.set_acl("/p/g", [AclEntry(kind, "access", may, name) for kind, may, name in entries])
    assert [entry.name for entry in client.get_acl_status("/p/g").entries if entry.name] == ["bob"]
    client.remove_acl("/p/g")


def main(uri: str, is_older: bool) -> None:
    client = Client(uri)
    data = bytes(range(256)) * 4000
    client.mkdirs("/p/d", 0o755, True)
    with client.create("/p/f", WriteOptions(replication=2, block_size=1 << 20)) as file:
        file.write(data)
    for more in (b"a", b"b" * 511, b"c" * 100_000):
        with client.append("/p/f") as file:
            file.write(more)
        data += more
        with client.read("/p/f") as file:
            assert file.read() == data, f"appended {len(more)} bytes"
    with client.read("/p/f") as file:
        file.seek(1_000_000)
        assert file.read(1000) == data[1_000_000:1_001_000]
    assert sorted(status.path for status in client.list_status("/p", True)) == ["/p/d", "/p/f"]
    if not is_older:
        assert [status.path for status in client.glob_status("/p/[f-z]")] == ["/p/f"]
    client.rename("/p/f", "/p/g", False)
    assert client.get_file_info("/p/g").length == len(data)
    client.set_permission("/p/g", 0o640)
    client.set_owner("/p/g", "bob", "staff")
    client.set_times("/p/g", 1000, 2000)
    client.set_replication("/p/g", 1)
    status = client.get_file_info("/p/g")
    assert (status.permission, status.owner, status.group, status.modification_time) == (0o640, "bob", "staff", 1000)
    assert client.get_content_summary("/p").length == len(data)
    if not is_older:
        assert client.get_acl_status("/p/g").owner == "bob"
        acls(client)
    try:
        client.get_file_info("/none")
        raise AssertionError("nothing is there")
    except FileNotFoundError:
        pass

    file_system = fsspec.filesystem("hdfs", host=uri.split("//")[1].split(":")[0], port=int(uri.rsplit(":", 1)[1]))
    with file_system.open("/p/h", "wb") as file:
        file.write(b"small")
    assert file_system.cat("/p/h") == b"small"
    assert sorted(file_system.ls("/p", detail=False)) == ["/p/d", "/p/g", "/p/h"]
    assert client.delete("/p", True)
    print("DONE")


main(sys.argv[1], sys.argv[2:] == ["older"])
