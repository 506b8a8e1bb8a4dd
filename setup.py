"""Which packages are shipped; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

# `conf` lives beside `funrec` in the repository and inside it when installed. pyproject.toml can map one
# package to another folder or find the rest by itself, but not both.
setup(packages=[*find_packages(include=["funrec", "funrec.*"]), "funrec.conf"], package_dir={"funrec.conf": "conf"})
