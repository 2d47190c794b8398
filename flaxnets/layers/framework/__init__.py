"""The layers of the published framework (Kang and Farias, arXiv 2511.14137), which replace convolutions and
attention: `convnn2d`, `convnn2d_attn` and `branching2d` take images, the others tokens. docs/neighbours.md
says how they differ from the layers of document 000."""
