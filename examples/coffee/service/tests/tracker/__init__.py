"""The tests of the tracker."""
