"use strict";
function prepareDigits(picture) { return []; }
