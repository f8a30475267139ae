// All formats that can be multiplied.
#pragma once

#include "iq4_nl/strip.h"
#include "iq4_xs/strip.h"
#include "q1_0/strip.h"
#include "q2_0/strip.h"
#include "q2_k/strip.h"
#include "q3_k/strip.h"
#include "q4_0/strip.h"
#include "q4_1/strip.h"
#include "q4_k/strip.h"
#include "q5_0/strip.h"
#include "q5_1/strip.h"
#include "q5_k/strip.h"
#include "q6_k/strip.h"
#include "q8_0/strip.h"
#include "tq1_0/strip.h"
#include "tq2_0/strip.h"

#define LOCALQ_STRIP_FORMATS(X)                                                                            \
  X(Q1_0Strip) X(Tq1_0Strip) X(Tq2_0Strip) X(Q2_0Strip) X(Q2KStrip) X(Q3KStrip) X(Iq4XsStrip) X(Q4_0Strip) \
  X(Iq4NlStrip) X(Q4KStrip) X(Q4_1Strip) X(Q5_0Strip) X(Q5KStrip) X(Q5_1Strip) X(Q6KStrip) X(Q8_0Strip)
