# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a browser: headless Chromium, driven through its debugging pipe. Without Chromium (Debian package
chromium, which nothing else needs) this is skipped, and says so."""

import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading

import pytest
from made_up import BUILD, Host, listen, wait_for

CHROMIUM = shutil.which("chromium")
MIB = 1 << 20
# The parser quotes what it did not expect, if that is short.
OWNED = '["a" "<b id=owned>"]'


class Browser:
    """One page, by the DevTools protocol: JSON with a null behind it, in on descriptor 3 and out on 4."""

    def __init__(self, profile):
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # 3 and 4 may be those very pipes: copies far above them are what the shell moves there.
        high_in, high_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 40) for fd in (theirs_in, theirs_out))
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{high_in} 4>&{high_out} {high_in}<&- {high_out}>&-', "bash", CHROMIUM,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
             "--remote-debugging-pipe", "about:blank"],
            pass_fds=(high_in, high_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        for fd in (theirs_in, theirs_out, high_in, high_out):
            os.close(fd)
        self.out, self.input = ours_out, os.fdopen(ours_in, "rb")
        self.number, self.session, self.rest = 0, None, b""
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.rest:
            more = self.input.read1(65536)
            assert more, "the browser has ended"
            self.rest += more
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def call(self, method, **params):
        self.number += 1
        text = {"id": self.number, "method": method, "params": params}
        if self.session:
            text["sessionId"] = self.session
        os.write(self.out, json.dumps(text).encode() + b"\0")
        while (message := self.message()).get("id") != self.number:
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(message["params"])
        assert "error" not in message, message
        return message["result"]

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression, seconds=30):
        wait_for(lambda: self.evaluate(expression), seconds)

    def text(self):
        return self.evaluate("document.body.innerText")

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(name="browser")
def a_browser(tmp_path):
    if not CHROMIUM:
        pytest.skip("no chromium here: apt-get install chromium")
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def balloon(mib, free):
    return {"target_mib": mib, "actual_mib": mib, "total_memory": 1000 * MIB, "free_memory": free * MIB,
            "available_memory": free * MIB}


def hints(working_set):
    return {"vcpus": [{"index": 0, "runnable": 1, "burst_ns": 1000000}],
            "machine": {"working_set_bytes": working_set * MIB, "refaults": 1, "pressure": {"memory_some": 0}}}


@pytest.fixture(name="host")
def made_up_host(tmp_path):
    host = Host(tmp_path / "host", 4 << 20, 1 << 20)
    host.cpus(2, 4 << 20)
    host.pressure(1.5, 40)
    host.add("web", 800 * MIB, memory_mib=1024, cpus=1, share=300, balloon=balloon(0, 300), hints=hints(400))
    host.add("silent", 200 * MIB, memory_mib=512, cpus=2)
    yield host
    host.end()


def nonsense(path):
    """A socket whose answers are quoted in what duetd says of it."""
    listening = listen(path)

    def serve():
        while True:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(OWNED), OWNED.encode()))

    threading.Thread(target=serve, daemon=True).start()


def dashboard(host, *words):
    process = subprocess.Popen([BUILD / "duetd", "dashboard", "--socket", host.socket, "--listen", "127.0.0.1:0",
                                *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    host.processes.append(process)
    return process, process.stdout.readline().strip()


def test_draws_the_host(host, browser):
    nonsense(host.root / "vms" / "hostile.sock")
    duetd = host.start()
    host.sees("web ")
    host.sees("hostile ")
    assert host.ctl("policy", "numa", "off").returncode == 0
    page, url = dashboard(host)
    browser.call("Page.navigate", url=url)
    browser.until("document.querySelectorAll('.machine').length === 3 && "
                  "document.querySelectorAll('#decisions tr').length > 3")
    text = browser.text()
    for words in ("3 machines", "4 CPUs", "working set 400, in use besides 324, free 300, balloon 0 of 1024 MiB",
                  "share 300", "in use 200, free 312, balloon 0 of 512 MiB", "some wait for memory: 1.50 %",
                  "some wait for a CPU: 40.00 %", "node 1, 2 CPUs", "policy off from now on, it was locality",
                  "What this host has not", "reserve 256 MiB"):
        assert words in text, words
    # Bars are as long as what they say: the working set's is 400 of 1024.
    assert abs(float(browser.evaluate("document.querySelectorAll('.machine')[2].querySelector('rect.set')"
                                      ".getAttribute('width')").rstrip("%")) - 400 / 10.24) < 0.1
    # What a machine says is text.
    assert "left out: no JSON" in text and "'\"<b id=owned>\"'" in text
    assert browser.evaluate("document.getElementById('owned') === null")

    # Merged pages are shown where there are any.
    assert browser.evaluate("document.getElementById('sharing-part').hidden")
    shown = browser.evaluate("(showSharing({}, [{name: 'twin', memory: 1 << 29, merged: 1 << 26, offered: 1 << 27}, "
                             "{name: 'none', merged: 0}]), document.body.innerText)")
    assert "twin: 64 MiB merged, 128 MiB offered of 512 MiB" in shown and "none: " not in shown

    # At a phone's width nothing sticks out.
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    browser.until("window.innerWidth === 360")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.evaluate("[...document.querySelectorAll('.machine svg')].every((bar) => bar.clientWidth > 250)")

    # Nothing was refused by its own policy, and nothing went wrong; a browser asks for an icon by itself.
    assert [c for c in browser.complaints if "favicon" not in json.dumps(c)] == []

    duetd.terminate()
    duetd.wait(timeout=20)
    browser.until("document.getElementById('state').textContent.includes('duetd does not answer')")
    assert browser.evaluate("document.body.classList.contains('stale')")
    assert "working set 400" in browser.text(), "what was last known stays"
    host.start()
    browser.until("!document.body.classList.contains('stale')")
    page.terminate()
    assert page.wait(timeout=20) == 0
    browser.until("document.getElementById('state').textContent.includes('duetd dashboard has ended')")


def test_other_pages_cannot_look(host, browser):
    """A page of elsewhere that knows the address, secret and all, gets nothing."""
    host.start()
    host.sees("web ")
    _, url = dashboard(host)
    browser.call("Page.navigate", url="data:text/html,<title>elsewhere</title>")
    browser.until("document.title === 'elsewhere'")
    assert browser.call("Runtime.evaluate", awaitPromise=True, returnByValue=True, expression=f"fetch('{url}host')"
                        ".then((answer) => answer.text(), (error) => 'refused')")["result"]["value"] == "refused"


def test_is_for_this_host_alone(host):
    for address, words in (("0.0.0.0:8478", "loopback"), ("[::]:8478", "loopback"), ("web:1", "loopback")):
        result = subprocess.run([BUILD / "duetd", "dashboard", "--listen", address], capture_output=True, text=True,
                                check=False, timeout=20)
        assert result.returncode == 1 and f"--listen {address}" in result.stderr and words in result.stderr
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    result = subprocess.run([BUILD / "duetd", "dashboard", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"],
                            capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == 1 and "name another port" in result.stderr
    for words in (["--brew"], ["--listen"]):
        result = subprocess.run([BUILD / "duetd", "dashboard", *words], capture_output=True, text=True, check=False,
                                timeout=20)
        assert result.returncode == 2 and words[0] in result.stderr


def test_slow_clients_do_not_hold_it_up(host):
    host.start()
    host.sees("web ")
    host.sees("silent ")
    _, url = dashboard(host)
    address, _, secret = url.removeprefix("http://").rstrip("/").partition("/")
    name, _, port = address.partition(":")
    silent = [socket.create_connection((name, int(port))) for _ in range(5)]
    client = http.client.HTTPConnection(name, int(port), timeout=20)
    client.request("GET", f"/{secret}/vms")
    answer = client.getresponse()
    assert answer.status == 200 and {vm["name"] for vm in json.load(answer)} == {"web", "silent"}
    client.request("GET", f"/{'0' * len(secret)}/vms")
    answer = client.getresponse()
    assert answer.status == 404 and secret not in answer.read().decode()
    for one in silent:
        one.close()
