"""Known sets from the network: archives, checked and unpacked, and TFDS folders made of them."""
