# SPDX-License-Identifier: Apache-2.0
"""Code and data in one page, run where an emulator must see each change. Run in the lab host; prints
how many changes it made.

Two pages that can be written and run: a function in the first, one at the border of both. Between two
changes come stores to the same pages, few and many: the emulator counts them (lab/qemu/lab-code.h). The
changes come from this thread, or from another one through another mapping while this one calls."""

import ctypes
import mmap
import os
import struct
import threading

PAGE = mmap.PAGESIZE
FUNCTION = b"\xb8%s\xc3"  # mov $number, %eax; ret
NUMBER = ctypes.CFUNCTYPE(ctypes.c_uint32)
INSIDE, BORDER = 64, PAGE - 3  # its number is in both pages
BETWEEN = (0, 1, 2, 7, 8, 9, 15, 63, 64, 65, 127, 128, 129, 300)

file = os.memfd_create("code")
os.ftruncate(file, 2 * PAGE)
code = mmap.mmap(file, 2 * PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
alias = mmap.mmap(file, 2 * PAGE)  # the same memory elsewhere
base = ctypes.addressof(ctypes.c_char.from_buffer(code))
changes = 0


def put(at: int, number: int, where):
    where[at:at + 6] = FUNCTION % struct.pack("<I", number)


def told(at: int) -> int:
    return NUMBER(base + at)()


for where in (code, alias):
    for at in (INSIDE, BORDER):
        for between in BETWEEN * 8:
            changes += 1
            put(at, changes, where)
            assert told(at) == changes, f"{told(at)} at {at}, {changes} is there"
            for store in range(between):
                where[1024 + 8 * store] = store & 0xff
                where[PAGE + 100 + store] = store & 0xff
            assert told(at) == changes, f"{told(at)} at {at} after {between} stores beside it"

# One more thread: what it wrote before it said so is what runs.
written = [0]
put(INSIDE, 0, code)


def write():
    for number in range(1, 4001):
        alias[INSIDE + 1:INSIDE + 5] = struct.pack("<I", number)
        written[0] = number
        for store in range(number % 150):
            alias[2048 + store] = store


thread = threading.Thread(target=write)
thread.start()
while thread.is_alive():
    before = written[0]
    number = told(INSIDE)
    assert number >= before, f"{number} runs, {before} was written"
thread.join()
assert told(INSIDE) == 4000
print(f"{changes + 4000} changes")
