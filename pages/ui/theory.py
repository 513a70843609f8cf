"""The explanations on the pages: the idea, the algorithm in a few lines, and what each slider does to it."""

from __future__ import annotations

import streamlit as st

from pages.ui import plane

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
The **fast** sampler takes whole steps, $h = 1$, and adds noise of the next lower level of a fixed list: the same walk
in a tenth of the evaluations. Its measurements also correct what was *not* measured. How the errors of the estimate go
together is in the denoiser's derivative, $C = \sigma^2\, \partial \hat{x} / \partial y$, and so in place of step 2 the
estimate becomes $\hat{x} + C M v$, with one step towards the $v$ that solves

$$M^\mathsf{T} C M\, v = m - M^\mathsf{T} \hat{x}$$

Around a hole, where most pixels are known, it takes $C = \sigma^2$: they correct themselves only. Where averages of
blocks or low frequencies are known, the last steps do the same, as it matters little there; and several samples add
half of the estimate's last change to it, so that it does not lag behind as the noise falls.
"""

SLIDERS = r"""
- **h₀**, the first step: larger gets there in fewer steps, and the picture is coarser.
- **β**, the noise control: 1 adds none on the way, and the answer comes out smooth; smaller adds more, which takes
  longer and lets the answers differ.
- **σ₀** and **σ_L**, the noise levels of the start and of the end: a lower start leaves less room to differ, a lower
  end resolves finer detail.
- **Samples**: how many answers, each from noise of its own.
"""


@st.fragment
def fold(measurement: str = "") -> None:
    """Show the first paper's explanation, folded away. `measurement` says what M is, if anything is measured."""
    # As a fragment, it alone is drawn again when the visitor opens it, and what takes time is drawn only then.
    with st.expander("What is happening here", icon=":material/school:", key="explained", on_change="rerun") as opened:
        st.markdown(IDEA + (MEASURED if measurement else FREE) + REST)
        if opened.open:
            plane.show(measured=bool(measurement))
        if measurement:
            st.markdown(f"{FAST}\n\n**Here**, {measurement}")
        st.markdown(SLIDERS)
        source(f"{PAPER}, Algorithm {2 if measurement else 1} and Figure 7.")


DENOISING = r"""
The network was trained on photographs with **white** noise of every strength: noise that is as strong everywhere, and
of which one pixel tells nothing about the next. Nobody tells it how strong it is here.

1. Start from the noisy picture $y$. The network answers with the noise, $-f(y)$, and $\hat{x} = y + f(y)$ is the
   picture.
2. What it took away tells how strong the noise was: $\lVert f(y) \rVert^2 / N = \sigma^2 (1 - c)$. A part $c$ of the
   noise was kept, as no denoiser tells all of it from detail; one more look, at a picture that is changed a little,
   measures $c$. The level is taken where the picture is smooth.
3. *Samples* differ where the noise has hidden something: each is a picture that could have been under it. Their
   average is as good as the one evaluation, and their spread tells where to trust it.

**Noise of a camera** is stronger where the picture is bright, because light comes in counts: its variance is
$g \cdot x + \sigma^2$ with a gain $g$. The network adapts from place to place, so it needs no telling. Samples do:
set the gain under *Advanced*.

**JPEG files are different.** Saving as JPEG smooths noise away in blocks of 8×8 pixels and leaves blotches as wide as
that. This is not white any more: the network takes part of it for detail and keeps it, and the level that it reports
is too low. The same holds for pictures that were enlarged or denoised by the camera. It helps to reduce such a picture
to half of its size first, where the noise is nearly white again; or start from the raw file.
"""


def denoising_fold() -> None:
    """Show the explanation of denoising, folded away."""
    with st.expander("What is happening here", icon=":material/school:"):
        st.markdown(IDEA + DENOISING)
        source(f"{PAPER}, section 2.")


NOISE_PAPER = "[Whang, Lei & Dimakis (2021)](https://arxiv.org/abs/2003.08089)"

NOISE = r"""
What was measured is $y = f(x) + \delta$: a picture $x$, dimmed or summed up by $f$, and noise $\delta$ on top. Most
methods take all noise for white. Here it has a density of its own, $p_\Delta$, which says which noise is likely; and a
normalizing flow, trained on faces or on digits, is a density $p_G$ of pictures. The answer is the picture that makes
both likely. It minimises

$$-\log p_\Delta\big(y - f(x)\big) \;-\; \beta\, \log p_G(x)$$

1. Start from what was measured, as a picture.
2. Take the gradient of both terms, through the flow, and go a step down (Adam).
3. Narrow the noise model: at first it is widened by white noise, so that the descent meets no walls.
4. Repeat from 2, with ever smaller steps.

The plot shows both log-densities as they rise, and dotted those of the true picture and the true noise, which the
descent does not know. If one ends above its dotted line, the answer is likelier than the truth: too smooth, or too
close to what was measured.
"""

NOISE_SLIDERS = r"""
- **β**, the smoothing: how much the prior counts. 1 is Bayes' rule. Near 0 the answer is what was measured, noise and
  all; far above 1 it is a plain face that hardly has to do with it.
- **Descend in**: the paper changes the code $z$ of the picture, $x = G(z)$, a step at a time. The picture itself gets
  there in fewer steps.

**Implicit priors** take pictures of any size, because no flow is needed: one denoiser knows what photographs look
like, another what the noise looks like, and the unknown is the pair of both, whose sum was measured. The first paper's
sampler draws such pairs. So there are several answers, and where they differ nobody can tell picture and noise apart.
Noise that is Gaussian needs no second denoiser. Of a **scribble** a denoiser of strokes says where it is; its colour
and its opacity follow along its edges, and then what shines through it is used. **Signs** of sums do not say how bright
a digit is: each estimate moves to the side that the signs tell, and its brightest pixels are made white.

**Other methods** see less. *Asim et al.* minimise $\lVert y - f(G(z)) \rVert^2 + \gamma \lVert z \rVert$ with the
same flow, *Bora et al.* $\lVert y - f(G(z)) \rVert^2 + \lambda \lVert z \rVert^2$ with a GAN: white noise, both.
*MLE* has the noise model and the GAN, which has no density, so that the second term is missing.
"""


def noise_fold() -> None:
    """Show the second paper's explanation, folded away."""
    with st.expander("What is happening here", icon=":material/school:"):
        st.markdown(NOISE + NOISE_SLIDERS)
        source(f"{NOISE_PAPER}, Eq. 10.")


DIRECT = r"""
Both a flow and a GAN turn noise $z \sim \mathcal{N}(0, T^2 I)$ into a picture $x = G(z)$ in one evaluation; they learnt
it with the temperature $T = 1$. A **flow** can be run backwards and so has an exact density: it says how likely any
picture is, which makes it a prior for every kind of measurement. The generator of a **GAN** learnt only to deceive
another network: it has no density, and many pictures are out of its reach. That of a **VAE** learnt to rebuild pictures
from a code that another network guesses: its pictures are blurred, and it reaches more of them.
"""


def direct_fold() -> None:
    """Show what a flow and a GAN are, folded away."""
    with st.expander("What is happening here", icon=":material/school:"):
        st.markdown(DIRECT)
        source(f"{NOISE_PAPER}, section 2 and Figure 10.")


def source(where: str) -> None:
    """Say where it is explained. A caption is too faint for a link in the dark."""
    st.markdown(f":small[Source: {where}]")
