"""Networks of the paper: structure encoder, decoder, parameter MLPs, discriminator, teacher."""
