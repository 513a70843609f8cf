"""What is happening here: the idea, the algorithm in six lines, and what each slider does to it."""

from __future__ import annotations

import streamlit as st

PAPER = "[Kadkhodaie & Simoncelli (2021)](https://arxiv.org/abs/2007.13640)"

IDEA = r"""
A network was shown noisy photographs and learnt to return clean ones, without being told how strong the noise was. To
do that well it had to learn which pictures are likely: its correction $f(y)$ points uphill on the log density of noisy
pictures (Miyasawa 1961), and can be climbed.

$$f(y) = \hat{x}(y) - y = \sigma^2\, \nabla_y \log p(y)$$
"""

FREE = r"""
1. Start from noise: $y \sim \mathcal{N}(\tfrac12, \sigma_0^2 I)$. Then, for $t = 1, 2, \dots$:
2. $d = f(y)$, where the denoiser would go.
"""

MEASURED = r"""
What was measured, $m = M^\mathsf{T} x$, is kept throughout; the denoiser fills in only what was not.

1. Start from noise around what is known: $y \sim \mathcal{N}(\tfrac12 (1 - M M^\mathsf{T} 1) + M m,\ \sigma_0^2 I)$.
   Then, for $t = 1, 2, \dots$:
2. $d = (I - M M^\mathsf{T})\, f(y) + M (m - M^\mathsf{T} y)$: uphill, and towards what was measured.
"""

REST = r"""
3. $\sigma = \lVert d \rVert / \sqrt{N}$, how noisy $y$ still is. Stop when $\sigma \le \sigma_L$.
4. $h = h_0 t / (1 + h_0 (t - 1))$, how much of $d$ to take: a little more each time.
5. $\gamma^2 = \big((1 - \beta h)^2 - (1 - h)^2\big)\, \sigma^2$, how much fresh noise to add.
6. $y \leftarrow y + h\, d + \gamma z$ with $z \sim \mathcal{N}(0, I)$.
"""

FAST = r"""
The **fast** sampler takes whole steps, $h = 1$, and adds fresh noise of the next lower level of a fixed list: the same
walk in a tenth of the evaluations.
"""

SLIDERS = r"""
- **h₀**, the first step: larger gets there in fewer steps, and the picture is coarser.
- **β**, the noise control: 1 adds none on the way, and the answer comes out smooth; smaller adds more, which takes
  longer and lets the answers differ.
- **σ₀** and **σ_L**, the noise levels of the start and of the end: a lower start leaves less room to differ, a lower
  end resolves finer detail.
- **Samples**: how many answers, each from noise of its own.
"""


def fold(measurement: str = "") -> None:
    """The explanation, folded away.

    Parameters
    ----------
    measurement : what M is on this page; without one, nothing is measured.
    """
    with st.expander("What is happening here", icon=":material/school:"):
        st.markdown(IDEA + (MEASURED if measurement else FREE) + REST)
        if measurement:
            st.markdown(f"{FAST}\n\n**Here**, {measurement}")
        st.markdown(SLIDERS)
        st.caption(f"Source: {PAPER}, Algorithm {2 if measurement else 1}.")
