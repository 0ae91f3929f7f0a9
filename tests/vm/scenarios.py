# SPDX-License-Identifier: Apache-2.0
"""What nodes.py plays, on one node or two. A step that fails is an AssertionError with what was seen."""

import json
import time
from pathlib import Path

from nodes import assert_one_at_a_time, primitive, until

SUCCESS, GENERIC, INSTALLED, NOT_RUNNING = 0, 1, 5, 7
DISK = "/shared/web.img"


def played_on(count: int):
    def mark(function):
        function.nodes = count
        return function
    return mark


def step(text: str):
    print(f"{time.monotonic():.1f} {text}", flush=True)


def give_machine(cluster, given, *options: str):
    """web's configuration on each node, its disk in the folder that all see."""
    with open(cluster.shared / "web.img", "wb") as file:
        file.truncate(2 << 20)
    for node in cluster.nodes:
        node.run("mkdir -p /etc/duet && duet run --kernel {kernel} --initrd {initrd} --memory 256M --cpus 1 --cmdline quiet "
                 "--disk path={disk} {more} --print-config >/etc/duet/web.json".format(
                     kernel=given["kernel"], initrd=given["initrd"], disk=DISK, more=" ".join(options)))
        node.run(f"mkdir -p /etc/duet/tls && cp {given['files']}/tls/* /etc/duet/tls/ && chgrp -R duet /etc/duet/tls && "
                 "chmod 640 /etc/duet/tls/*")


def does(result, status: int, says: str = ""):
    assert result.returncode == status and says in result.stdout, f"{result.returncode} {result.stdout}"


def guest_counts(node, after: str = ""):
    node.until(f"journalctl -q -o cat -u duet@web {after} | grep -q '^tick '")


# ---- one node ----

def by_hand(cluster):
    """The agent's actions in the order that Pacemaker calls them, and in others."""
    node, = cluster.nodes
    does(node.agent("monitor"), NOT_RUNNING)
    does(node.agent("stop"), SUCCESS)
    step("started, twice")
    does(node.agent("start"), SUCCESS)
    does(node.agent("start"), SUCCESS)
    does(node.agent("monitor", hang_time=60), SUCCESS)
    guest_counts(node)

    step("its disk is busy for another one")
    node.run("cp /etc/duet/web.json /etc/duet/twin.json")
    does(node.agent("start", config="/etc/duet/twin.json", CRM_meta_timeout=15000), GENERIC, "twin runs elsewhere, or something has its disk open")
    does(node.agent("monitor", config="/etc/duet/twin.json"), NOT_RUNNING)
    does(node.agent("monitor"), SUCCESS)

    step("stopped by its power button, twice")
    does(node.agent("stop"), SUCCESS)
    assert "duet-guest: power button" in node.console(), node.console()
    does(node.agent("stop"), SUCCESS)
    does(node.agent("monitor"), NOT_RUNNING)
    assert node.run("ls -A /run/duet") == ""

    step("its storage is gone")
    node.run(f"mv {DISK} {DISK}.away")
    does(node.agent("start"), INSTALLED, "is its storage there on this node?")
    node.run(f"mv {DISK}.away {DISK}")

    step("a start that is killed in the middle")
    node.run(f"(OCF_ROOT=/usr/lib/ocf OCF_RESKEY_config=/etc/duet/web.json {AGENT_PATH} start >/dev/null 2>&1 & echo $! >/tmp/pid); "
             "until [ -e /run/duet/web.options ]; do sleep 0.05; done; kill -9 $(cat /tmp/pid)")
    does(node.agent("start"), SUCCESS)
    # Its guest has hardly begun, and hears no button yet.
    does(node.agent("stop", shutdown_time=2), SUCCESS)
    does(node.agent("monitor"), NOT_RUNNING)

    step("a target that waits is none that runs, and a killed one is no hindrance")
    node.run(f"(OCF_ROOT=/usr/lib/ocf OCF_RESKEY_config=/etc/duet/web.json OCF_RESKEY_migration_network=10.9.0.0/24 "
             f"OCF_RESKEY_CRM_meta_migrate_source=n9 {AGENT_PATH} migrate_from >/dev/null 2>&1 & echo $! >/tmp/pid)")
    node.until("duet ctl /run/duet/web.sock alive 2>&1 | grep -q 'on its way here'")
    does(node.agent("monitor"), NOT_RUNNING)
    node.run("kill -9 $(cat /tmp/pid)")
    does(node.agent("start"), SUCCESS)
    does(node.agent("stop", shutdown_time=2), SUCCESS)


AGENT_PATH = "/usr/lib/ocf/resource.d/duet/VM"


def tester(cluster):
    node, = cluster.nodes
    said = node.run(f"ocf-tester -n web -o config=/etc/duet/web.json -o plain=true -o shutdown_time=2 {AGENT_PATH}")
    step(said.strip().splitlines()[-1])
    assert f"{AGENT_PATH} passed all tests" in said, said


def starts_of(node) -> int:
    return int(node.run("journalctl -q -o cat -u duet@web | grep -c '^first tick'", check=False).strip() or 0)


def under_pacemaker(cluster):
    node, = cluster.nodes
    cluster.configure()
    node.run("crm_attribute --name stonith-enabled --update false && crm_attribute --name start-failure-is-fatal --update false")
    before = starts_of(node)
    node.run(f"cibadmin -C -o resources -X '{primitive(hang_time=12, plain='true', shutdown_time=8)}'")
    node.until("crm_mon -1 | grep 'web.*Started n1'")
    until(lambda: starts_of(node) == before + 1, "its guest does not begin")

    step("what it needs is told")
    node.run("systemctl enable --now duetd duet-utilization")
    node.until("crm_resource --resource web --utilization --get-parameter memory | grep -E '^(6[4-9]|[7-9][0-9]|[12][0-9][0-9])$'")
    node.until("crm_attribute --lifetime reboot --utilization --name memory --query | grep -E 'value=[0-9]{3,}'")

    step("its process is killed: it starts anew")
    node.run("systemctl kill -s KILL duet@web")
    until(lambda: starts_of(node) == before + 2, "it is not started again")
    node.until("crm_mon -1 | grep 'web.*Started n1'")

    step("a busy guest is left alone; one that halts for ever is started anew")
    # The console of a unit is /dev/null to read from, so the guest is told by its disk.
    with open(cluster.shared / "web.img", "r+b") as file:
        file.write(b"busy, then halt\n".ljust(512))
    node.until("journalctl -q -o cat -u duet@web | grep -q '^busy for long'")
    assert starts_of(node) == before + 2
    until(lambda: starts_of(node) == before + 3, lambda: f"it hangs on: {node.run('crm_mon -1rf')}")
    assert "no interrupt, halt or device access" in node.run("journalctl -q -o cat | grep 'shown no life' | tail -n 1")

    step("stopped by Pacemaker")
    node.run("crm_resource --resource web --set-parameter target-role --meta --parameter-value Stopped")
    node.until("crm_mon -1r | grep 'web.*Stopped'")
    does(node.agent("monitor"), NOT_RUNNING)
    turns = assert_one_at_a_time(Path(cluster.shared) / "web.img")
    step(f"{len(turns)} guests wrote to the disk, one after the other")


@played_on(1)
def one_node(cluster, given):
    give_machine(cluster, given)
    by_hand(cluster)
    tester(cluster)
    under_pacemaker(cluster)


# ---- two nodes ----

def where(cluster) -> str:
    said = next(node for node in cluster.nodes if node.process.poll() is None).run(
        "crm_resource --resource web --locate 2>&1", check=False)
    return " ".join(word for word in said.split() if word in ("n1", "n2"))


def is_at(cluster, name: str):
    until(lambda: where(cluster) == name, lambda: f"web is at {where(cluster)!r}, not at {name}: "
          f"{cluster.nodes[0].run('crm_mon -1rf', check=False)}")


def ticks(node) -> list[int]:
    return [int(line.split()[1]) for line in node.console().splitlines() if line.startswith("tick ")]


def move(cluster, source, target):
    """As an administrator empties a node. The guest counts on."""
    seen = len(ticks(target))
    source.run(f"crm_attribute --node {source.name} --name standby --update on")
    is_at(cluster, target.name)
    until(lambda: len(ticks(target)) > seen, "its guest does not count on")
    before, after = ticks(source)[-1], ticks(target)[seen]
    assert before - 3 <= after <= before + 20, f"{before} {after}"
    until(lambda: target.agent("monitor").returncode == SUCCESS, "it does not live there")
    source.until("test $(systemctl is-active duet@web) = inactive")
    source.run(f"crm_attribute --node {source.name} --name standby --delete")


def dies(cluster, node, other):
    """Its power is cut. The other one makes sure of that, and starts what ran there."""
    before = starts_of(other)
    node.power_off()
    is_at(cluster, other.name)
    assert cluster.fenced.count(node.name) >= 1
    until(lambda: starts_of(other) == before + 1, "its guest does not begin")


@played_on(2)
def two_nodes(cluster, given):
    one, two = cluster.nodes
    give_machine(cluster, given)
    cluster.configure()
    one.run("cibadmin -C -o resources -X '<primitive id=\"power\" class=\"stonith\" type=\"fence_lab\">"
            "<instance_attributes id=\"power-a\"><nvpair id=\"power-h\" name=\"pcmk_host_list\" value=\"n1 n2\"/>"
            "</instance_attributes></primitive>' && crm_attribute --name stonith-enabled --update true")
    one.run("crm_attribute -t rsc_defaults --name resource-stickiness --update 100")
    one.run(f"cibadmin -C -o resources -X '{primitive(migration_network='10.9.0.0/24')}'")
    until(lambda: where(cluster), "web does not start")
    if where(cluster) != "n1":
        one, two = two, one
    guest_counts(one)

    step("there and back")
    began = time.monotonic()
    move(cluster, one, two)
    step(f"moved in {time.monotonic() - began:.1f} s, as the lab's clock goes")
    move(cluster, two, one)
    assert len(assert_one_at_a_time(cluster.shared / "web.img")) == 1

    step("certificates of another authority: it starts there anew, or stays; never runs twice")
    two.run(f"cp {given['files']}/stranger/* /etc/duet/tls/ && chgrp duet /etc/duet/tls/*")
    one.run(f"crm_attribute --node {one.name} --name standby --update on")
    is_at(cluster, two.name)
    until(lambda: starts_of(two) >= 1, "its guest does not begin there")
    until(lambda: len(assert_one_at_a_time(cluster.shared / "web.img")) == 2, "it does not write there")
    one.run(f"crm_attribute --node {one.name} --name standby --delete; crm_resource --cleanup --resource web")
    two.run(f"cp {given['files']}/tls/* /etc/duet/tls/ && chgrp duet /etc/duet/tls/*")

    step("a node dies")
    dies(cluster, two, one)
    until(lambda: len(assert_one_at_a_time(cluster.shared / "web.img")) == 3, "it does not write there")
    turns = assert_one_at_a_time(cluster.shared / "web.img")
    step(f"{len(turns)} guests wrote to the disk, one after the other: {json.dumps(turns)}")
