#!/usr/bin/env python3
"""Prints `passed failed skipped` of a JUnit XML file. Exit status 1 when it cannot be read."""

import sys
import xml.etree.ElementTree as ElementTree


def main(path):
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    failed = sum(1 for case in cases
                 if case.find("failure") is not None or case.find("error") is not None)
    skipped = sum(1 for case in cases if case.find("skipped") is not None)
    print(len(cases) - failed - skipped, failed, skipped)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (OSError, ElementTree.ParseError) as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        sys.exit(1)
