#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py INPUT OUTPUT NAME: writes the bytes of INPUT as a C array."""
import sys

source, target, name = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
with open(target, "w", encoding="ascii") as file:
    file.write(f"static const unsigned char {name}[] = {{\n")
    for at in range(0, len(data), 12):
        file.write("\t" + ", ".join(f"0x{byte:02x}" for byte in data[at:at + 12]) + ",\n")
    file.write("};\n")
