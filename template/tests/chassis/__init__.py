"""The contract of the service, tested over HTTP and by what it logs; the same text whatever it is made of."""
