"""Layers, one file a family: functions of (net, key, ..) written in the language; ``net.Net`` lists them."""
