"""The sub-commands of `convd`, one module each; every module offers a `command`."""
