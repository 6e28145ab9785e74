"""A Ray cluster of two nodes on this machine, until its input ends; runs in Ray's environment."""

import json
import sys

from ray.cluster_utils import Cluster

_OBJECT_STORE_BYTES = 80 * 1024 * 1024


def main() -> None:
    """Start it with the dashboard's port as argument, and print where it is."""
    memory = {"num_cpus": 1, "object_store_memory": _OBJECT_STORE_BYTES}
    dashboard = {"include_dashboard": True, "dashboard_port": int(sys.argv[1])}
    cluster = Cluster(initialize_head=True, head_node_args=memory | dashboard)
    cluster.add_node(**memory)
    session = cluster.head_node.get_session_dir_path()
    print(json.dumps({"address": cluster.address, "session": session}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
