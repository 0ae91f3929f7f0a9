# SPDX-License-Identifier: Apache-2.0
"""The command line of lab/lab."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from .base.debian import DebianError
from .base.errors import LabError
from .base.paths import DUET, REPOSITORY
from .bench import profile
from .experiment import catalogue
from .host import counter, hardware, machine, plugin, qemu, remote
from .host.life import OPTION_NAMES, LabHost, say

EXAMPLES = """examples:
  lab/lab up                                   start the lab host (builds its QEMU once)
  lab/lab exec -- build/duet doctor            run a command in it
  echo hello | lab/lab exec -- sh -c 'cat >/scratch/f'
  lab/lab exec --auto -- build/duet doctor     directly where there is hardware, else in the lab
  lab/lab shell                                look around in it
  lab/lab down

environment:
  DUET_LAB_QEMU   mended (default), stock, or any: mended if it is built, else stock
  DUET_LAB_NAME   another lab host of this clone, with a life of its own
  DUET_CACHE      where downloads, builds and the lab's state are kept
"""


def _options(args: argparse.Namespace) -> dict:
    return {
        "qemu": "stock" if args.stock else None,
        "memory": args.memory,
        "icount": args.icount or None,
        "profile": args.profile or None,
        "kernel_options": args.kernel_options,
        "tsc_ratio": args.tsc_ratio,
        "pmu": args.pmu or None,
        "cpus": args.cpus,
    }


NO_OPTIONS = dict.fromkeys(OPTION_NAMES)


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0
    if not 0.1 <= ratio <= 4:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 0.1 to 4")
    return ratio


def _cpus(text: str) -> int:
    cpus = int(text) if text.isdecimal() else 0
    if not machine.NODES <= cpus <= machine.CPUS_MAX or cpus % machine.NODES:
        raise argparse.ArgumentTypeError(f"{text}: give an even number from {machine.NODES} to {machine.CPUS_MAX}")
    return cpus


def _up(args: argparse.Namespace) -> int:
    record = LabHost().up(_options(args))
    say(f"up: {record['qemu']}, Linux {record['kernel']}, {record['options']['memory']} MiB")
    return 0


def _down(_args: argparse.Namespace) -> int:
    say("down" if LabHost().down() else "was not up")
    return 0


def _status(args: argparse.Namespace) -> int:
    host = LabHost()
    record = host.record()
    state = "up" if host.alive(record) else "crashed" if record else "down"
    if args.json:
        print(json.dumps({"state": state, "console": str(host.console), **record}))
    elif state == "up":
        print(
            f"up: {record['qemu']}, Linux {record['kernel']}, {record['options']['memory']} MiB, "
            f"process {record['pid']}, started in {record['boot_seconds']} s\n"
            f"console: {host.console}"
        )
    elif state == "crashed":
        print(f"crashed: {host.crash_reason()}")
    else:
        print("down")
    return {"up": 0, "down": 3, "crashed": 4}[state]


def _exec(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("exec: no command: lab/lab exec -- CMD...", 2)
    host = LabHost()
    if args.direct or (args.auto and hardware.mode(host.repository)[0] == "hardware"):
        return _run_here(command, args.env)
    record = host.up(NO_OPTIONS)
    return remote.run(
        host, record, command, use_tty=args.tty, read_stdin=not args.no_stdin, env=args.env
    )


def _run_here(command: list[str], extra: list[str]) -> int:
    """Become the command; returns only if it cannot be run."""
    given = dict(item.split("=", 1) for item in extra if "=" in item)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, {**os.environ, **given})
    except FileNotFoundError:
        raise LabError(f"{command[0]}: not found", 127) from None
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}", 126) from None


def _mode(args: argparse.Namespace) -> int:
    found, reason = hardware.mode(LabHost().repository)
    print(f"{found}: {reason}" if args.why else found)
    return 0


def _count(args: argparse.Namespace) -> int:
    host = LabHost()
    if args.what == "program":
        print(plugin.mark_program())
    else:
        print(json.dumps(counter.marks(host) if args.what == "marks" else counter.count(host)))
    return 0


def _profile(args: argparse.Namespace) -> int:
    """What `between` expects, or what was executed, by function."""
    host = LabHost()
    if args.between:
        profile.expect(host, *args.between)
        return 0
    blocks = profile.take(host)
    if args.symbols:
        symbols = profile.Symbols(args.symbols.read_text())
    else:
        symbols = profile.host_symbols(host)
    counts = profile.by_function(blocks, symbols, bool(args.symbols))
    for name, count in counts.most_common(args.top):
        print(f"{count:14} {name}")
    return 0


def _experiment(args: argparse.Namespace) -> int:
    # Nobody else's commands are to be counted.
    os.environ.setdefault("DUET_LAB_NAME", "experiments")
    if args.list:
        print(catalogue.listing())
        return 0
    if not args.chosen:
        raise LabError("experiment: give the name of one, or all; --list tells what there is", 2)
    from .experiment import run

    return run.run(args.chosen, args.duet, args.direct, args.keep)


def _report(args: argparse.Namespace) -> int:
    from .report import document

    print(document.write(args.input, args.output))
    return 0


def _shell(_args: argparse.Namespace) -> int:
    host = LabHost()
    return remote.run(host, host.up(NO_OPTIONS), ["/bin/bash"], use_tty=True)


def _qemu(_args: argparse.Namespace) -> int:
    chosen = qemu.built() or qemu.build(say)
    say(f"{chosen.name}: {chosen.binary}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab/lab",
        description="A KVM host in QEMU's emulator, for machines without hardware virtualization.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the lab host if it is down")
    up.add_argument("--stock", action="store_true", help="use Debian's own QEMU")
    up.add_argument("--memory", type=int, metavar="MIB", help="memory of the lab host (4096)")
    up.add_argument("--icount", action="store_true", help="count time by instructions (1 GHz TSC)")
    up.add_argument("--profile", action="store_true", help="count by function too, for `profile`")
    up.add_argument("--tsc-ratio", type=_ratio, metavar="R",
                    help="frequency of its TSC, as a part or multiple of this machine's (1.0)")  # fmt: skip
    up.add_argument("--cpus", type=_cpus, metavar="N", help=f"its CPUs, an even number ({machine.CPUS})")
    up.add_argument("--pmu", action="store_true", help="give it performance counters")
    up.add_argument("--kernel-options", metavar="TEXT", help="added to its kernel's command line")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="take it down").set_defaults(run=_down)
    status = commands.add_parser("status", help="exit status 0 up, 3 down, 4 crashed")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    run = commands.add_parser("exec", help="run a command in it, as root, in this directory")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--direct", action="store_true", help="run it right here instead")
    where.add_argument("--auto", action="store_true", help="right here if there is hardware")
    run.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    run.add_argument("-n", "--no-stdin", action="store_true", help="leave standard input alone")
    run.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    run.set_defaults(run=_exec)
    mode = commands.add_parser("mode", help="print `hardware` or `lab`")
    mode.add_argument("--why", action="store_true", help="and the reason")
    mode.set_defaults(run=_mode)
    count = commands.add_parser("count", help="instructions executed so far, as JSON")
    count.add_argument(
        "what",
        nargs="?",
        choices=("now", "marks", "program"),
        default="now",
        help="now; marks: those since the last call; program: print the path of `mark`",
    )
    count.set_defaults(run=_count)
    shown = commands.add_parser("profile", help="instructions by function (after up --profile)")
    shown.add_argument("--between", type=int, nargs=2, metavar="MARK",
                       help="expect a profile from one mark to the other, print nothing")  # fmt: skip
    shown.add_argument("--symbols", type=Path, metavar="FILE",
                       help="of a guest, lines of ADDRESS NAME (default: the lab host's kernel)")  # fmt: skip
    shown.add_argument("--top", type=int, default=40, metavar="N")
    shown.set_defaults(run=_profile)
    trial = commands.add_parser("experiment", help="measure what the chapter claims (docs/experiments.md)")
    trial.add_argument("chosen", nargs="?", metavar="NAME", help=f"{', '.join(catalogue.files())}, or all")
    trial.add_argument("--list", action="store_true", help="tell what each is about, and measure nothing")
    trial.add_argument("--direct", action="store_true", help="on this machine's own KVM, not in the lab")
    trial.add_argument("--keep", action="store_true", help="leave the lab host up")
    trial.add_argument("--duet", type=Path, default=DUET, metavar="FILE",
                       help="the duet to measure (default: build/duet)")  # fmt: skip
    trial.set_defaults(run=_experiment)
    page = commands.add_parser("report", help="the page on what the experiments found")
    page.add_argument("--input", type=Path, default=REPOSITORY / "build" / "experiments", metavar="DIR")
    page.add_argument("--output", type=Path, default=REPOSITORY / "build" / "report", metavar="DIR")
    page.set_defaults(run=_report)
    commands.add_parser("qemu", help="build the mended QEMU now").set_defaults(run=_qemu)
    commands.add_parser("shell", help="an interactive shell in it").set_defaults(run=_shell)
    return parser


def _fill_standard_streams() -> None:
    """A caller may have closed some: a pipe of ours must not take their numbers."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> int:
    _fill_standard_streams()
    args = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that what was begun is undone
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return args.run(args)
    except (LabError, DebianError) as error:
        say(str(error))
        return error.code if isinstance(error, LabError) else 125
    except KeyboardInterrupt:
        return 130
