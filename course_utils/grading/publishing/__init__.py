"""From solutions to what students get, and back: release, bundle, solve."""
