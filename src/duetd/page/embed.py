# SPDX-License-Identifier: Apache-2.0
"""Makes the dashboard's page into C: its text, and the policy by which a browser runs its script and style alone.

  embed.py PAGE.html OUTPUT.c
"""

import base64
import hashlib
import re
import sys
from pathlib import Path

# Nothing is loaded from elsewhere, nothing is sent, nobody shows it in a frame.
POLICY = ("default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def hashed(page: str, element: str) -> str:
    inside, = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()


def main(source: str, output: str) -> None:
    page = Path(source).read_text(encoding="utf-8")
    policy = POLICY.format(script=hashed(page, "script"), style=hashed(page, "style"))
    code = page.encode() + b"\0"
    lines = [" ".join(f"{byte:#04x}," for byte in code[at:at + 16]) for at in range(0, len(code), 16)]
    Path(output).write_text('#include "duetd/dashboard_private.h"\n\n'
                            f'const char dashboard_policy[] =\n\t"{policy}";\n'
                            "const char dashboard_page[] = {\n\t" + "\n\t".join(lines) + "\n};\n", encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
